-- renew: keep the right to write a stream; works on a full Redis (GET, HMGET, PEXPIRE only, but for a re-grant).
-- KEYS lease, meta, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms
-- Returns {code, stop requested (0 no, 1 stopped, 2 abandoned), log there (0|1)}: 1 renewed, 2 granted again (the lease had lapsed, nobody took over),
-- 0 meta is gone or older than the grant (restore it), -1 lost: another worker holds or held a newer epoch.
-- What is older than mine proves nothing: Redis came back with what it was before my grant.
-- @include tail
-- @include held
local META_OUTLIVES_LOG_MS = 3600000
local epoch = tonumber(ARGV[2])
local mine = ARGV[1] .. ':' .. ARGV[2]
local held, held_epoch = read_held(KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'stop')
local stop = meta[2] == 'abandoned' and 2 or meta[2] and 1 or 0
local granted = tonumber(meta[1] or 0)
if held_epoch > epoch or granted > epoch then return {-1, stop, 1} end
if granted < epoch then
  return {read_tail(KEYS[3]) > epoch and -1 or 0, stop, 1}
end
local code = 1
if held == mine then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  local granted = redis.pcall('SET', KEYS[1], mine, 'PX', ARGV[3])
  -- A full Redis refuses the SET; the epoch still fences, and the next renewal tries again.
  code = granted.err and 1 or 2
  -- Its attempt goes on: the next loss decides anew how long to wait.
  if code == 2 then redis.call('HDEL', KEYS[2], 'retry_ms') end
end
local log_there = redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[4]) + META_OUTLIVES_LOG_MS)
return {code, stop, log_there}
