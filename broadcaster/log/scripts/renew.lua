-- renew: keep the right to write a stream; works on a full Redis (GET, HMGET, PEXPIRE only, but for a re-grant).
-- KEYS lease, meta, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms
-- Returns {code, stop requested (0 no, 1 stopped, 2 abandoned)}: 1 renewed, 2 granted again (the lease had lapsed, nobody took over),
-- 0 meta is gone (restore it), -1 lost: another worker holds or held a newer epoch.
-- @include tail
local META_OUTLIVES_LOG_MS = 3600000
local mine = ARGV[1] .. ':' .. ARGV[2]
local held = redis.call('GET', KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'stop')
local stop = meta[2] == 'abandoned' and 2 or meta[2] and 1 or 0
if held and held ~= mine then return {-1, stop} end
if meta[1] and meta[1] ~= ARGV[2] then return {-1, stop} end
if not meta[1] then
  if read_tail(KEYS[3]) > tonumber(ARGV[2]) then return {-1, stop} end
  return {0, stop}
end
local code = 1
if held then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  local granted = redis.pcall('SET', KEYS[1], mine, 'PX', ARGV[3])
  -- A full Redis refuses the SET; the epoch still fences, and the next renewal tries again.
  code = granted.err and 1 or 2
end
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[4]) + META_OUTLIVES_LOG_MS)
return {code, stop}
