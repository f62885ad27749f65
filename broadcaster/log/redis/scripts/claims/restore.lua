-- restore: Redis came back without a stream's meta, or with one from before this grant: the worker writes its copy, and the
-- lease. Where the log is closed already, the meta is written with its end, and without a lease.
-- KEYS meta, lease, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms, field, value ...
-- Returns 1 restored, 0 the meta is there and knows this grant (nothing done), -1 there is a newer epoch: another worker's.
-- @include clock
-- @include expiry
-- @include lease
-- @include tail
local FIELDS_FROM = 5
local epoch = tonumber(ARGV[2])
local granted = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
local _, lease_epoch = read_lease(KEYS[2])
local last_epoch, last_seq, _, closed, event = read_tail(KEYS[3])
if granted > epoch or lease_epoch > epoch or last_epoch > epoch then return -1 end
if granted == epoch then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, FIELDS_FROM))
if closed then
  redis.call('HSET', KEYS[1], 'status', status_of(event), 'ended_ms', digits(read_clock()),
    'terminal', event, 'terminal_id', digits(last_epoch) .. '-' .. digits(last_seq))
  redis.call('PEXPIRE', KEYS[1], digits(math.max(0, redis.call('PTTL', KEYS[3])) + META_OUTLIVES_LOG_MS))
  return 1
end
redis.call('PEXPIRE', KEYS[1], digits(tonumber(ARGV[4]) + META_OUTLIVES_LOG_MS))
redis.call('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
