-- renew: keep the right to write a stream. Works on a full Redis: but for a lapsed lease it uses GET, HMGET and PEXPIRE
-- only.
-- KEYS lease, meta, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms
-- Returns {code, stop requested (0 no, 1 stopped, 2 abandoned), whether there is a log (0|1)}: 1 renewed, 2 granted again
-- (the lease had lapsed, and no other worker took it), 0 the meta is gone or older than the grant (restore it), -1 lost:
-- another worker has or had a newer epoch.
-- Data older than this worker's grant proves nothing: Redis came back with what it was before the grant.
-- @include clock
-- @include expiry
-- @include lease
-- @include tail
local epoch = tonumber(ARGV[2])
local mine = ARGV[1] .. ':' .. ARGV[2]
local lease, lease_epoch = read_lease(KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'stop')
local stop = meta[2] == 'abandoned' and 2 or meta[2] and 1 or 0
local granted = tonumber(meta[1] or 0)
if lease_epoch > epoch or granted > epoch then return {-1, stop, 1} end
if granted < epoch then
  return {read_tail(KEYS[3]) > epoch and -1 or 0, stop, 1}
end
local code = 1
if lease == mine then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  local written = redis.pcall('SET', KEYS[1], mine, 'PX', ARGV[3])
  -- A full Redis refuses the SET; the epoch still fences, and the next renewal tries again.
  code = written.err and 1 or 2
  -- Its attempt goes on: the next loss sets a new wait.
  if code == 2 then redis.call('HDEL', KEYS[2], 'retry_ms') end
end
return {code, stop, keep_stream(KEYS[3], KEYS[2], ARGV[4])}
