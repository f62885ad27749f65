-- renew: keep the right to write a stream. Works on a full Redis: a renewal uses GET, HMGET and PEXPIRE only, and a lapsed
-- lease is written after an HDEL, because only a script's first write is refused for memory. Otherwise a worker that stood
-- still for a lease while Redis was full would lose its streams as soon as another one may claim them.
-- KEYS lease, meta, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms
-- Returns {code, stop requested (0 no, 1 stopped, 2 abandoned), whether there is a log (0|1)}: 1 renewed, 2 granted again
-- (the lease had lapsed, and no other worker took it), 0 the meta is gone or older than the grant (restore it), -1 lost:
-- another worker has or had a newer epoch. A stream that is over has its retention, and needs no lease: 1, and nothing is
-- written. A renewal travels beside its worker's last append, and Redis may carry it out after that.
-- Data older than this worker's grant proves nothing: Redis came back with what it was before the grant.
-- @include clock
-- @include expiry
-- @include lease
-- @include tail
local epoch = tonumber(ARGV[2])
local mine = ARGV[1] .. ':' .. ARGV[2]
local lease, lease_epoch = read_lease(KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'stop', 'status')
local stop = meta[2] == 'abandoned' and 2 or meta[2] and 1 or 0
local granted = tonumber(meta[1] or 0)
if lease_epoch > epoch or granted > epoch then return {-1, stop, 1} end
if granted < epoch then
  return {read_tail(KEYS[3]) > epoch and -1 or 0, stop, 1}
end
if is_over(meta[3]) then return {1, stop, 1} end
local code = 1
if lease == mine then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('HDEL', KEYS[2], 'retry_ms') -- its attempt goes on: the next loss sets a new wait
  redis.call('SET', KEYS[1], mine, 'PX', ARGV[3])
  code = 2
end
return {code, stop, keep_stream(KEYS[3], KEYS[2], ARGV[4])}
