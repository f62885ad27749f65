-- include/clock: Redis's clock. KEYS and ARGV are those of the script that includes it.
-- read_clock() → milliseconds since 1970. digits(number) → a whole number as text: Lua writes long ones with an exponent.
local function read_clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function digits(number) return string.format('%.0f', number) end
