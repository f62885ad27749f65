-- include/lease: which worker has a generation's lease. KEYS and ARGV are those of the script that includes it.
-- read_lease(lease key) → the lease as it is stored (false: there is none), and its epoch (0: there is none).
local function read_lease(key)
  local lease = redis.call('GET', key)
  return lease, lease and tonumber(string.match(lease, ':(%d+)$')) or 0
end
