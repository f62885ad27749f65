-- restore: Redis came back without this stream's meta, or with one from before this grant; its worker writes it down again,
-- with the lease; where the log is closed already, as it was written down with its end, and without one.
-- KEYS meta, lease, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms, field, value ...
-- Returns 1 restored, 0 meta is there and knows this grant (nothing done), -1 somebody has a newer epoch: not mine any more.
-- @include tail
-- @include held
local META_OUTLIVES_LOG_MS = 3600000
local epoch = tonumber(ARGV[2])
local granted = tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0)
local _, held_epoch = read_held(KEYS[2])
local last_epoch, last_seq, _, closed, event = read_tail(KEYS[3])
if granted > epoch or held_epoch > epoch or last_epoch > epoch then return -1 end
if granted == epoch then return 0 end
local fields = {}
for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
if closed then
  local time = redis.call('TIME')
  local kind = string.match(event, '^{"type":"([%w-]+)"')
  redis.call('HSET', KEYS[1], 'status', kind == 'abort' and 'aborted' or kind == 'finish' and 'finished' or 'failed',
    'ended_ms', string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)),
    'terminal', event, 'terminal_id', string.format('%.0f-%.0f', last_epoch, last_seq))
  redis.call('PEXPIRE', KEYS[1], math.max(0, redis.call('PTTL', KEYS[3])) + META_OUTLIVES_LOG_MS)
  return 1
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[4]) + META_OUTLIVES_LOG_MS)
redis.call('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
