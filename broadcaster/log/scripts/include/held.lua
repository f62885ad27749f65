-- include/held: who holds a generation's lease. KEYS and ARGV are those of the script that includes it.
-- read_held(lease key) → the lease as it is stored (false: none), and its epoch (0: none).
local function read_held(key)
  local held = redis.call('GET', key)
  return held, held and tonumber(string.match(held, ':(%d+)$')) or 0
end
