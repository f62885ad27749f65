-- webhook_due: these generations are over; the webhooks promised for them are due now.
-- KEYS promised, due
-- ARGV generation id ...
-- Returns how many became due. One that is due already (waiting, or being delivered) stays as it is.
-- Works on a full Redis: memory is asked for before a script's first write, and ZREM needs none.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local moved = 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[1], id) == 1 then moved = moved + redis.call('ZADD', KEYS[2], 'NX', now_ms, id) end
end
return moved
