-- include/grant: a stream as claim, end_stream and rebase find it, and the right to write it under a new epoch.
-- KEYS log, meta, lease, live channel
-- ARGV those of the script that includes it, by name; among them worker, lease_ms, live_ttl_ms, version
-- The grant is the fence: from this step on every append under an older epoch is refused.
-- @include arguments
-- @include entry
-- @include expiry
-- @include tail
local last_epoch, last_seq, bytes, closed, newest_event = read_tail(KEYS[1])
local FIELDS = {'epoch', 'attempts', 'status', 'stop', 'on_worker_loss', 'retention_ms', 'created_ms', 'retry_ms',
  'handed_back', 'dead', 'started_ms', 'broken_off', 'rebased_from', 'claimed_as', 'leased_ms'}
local meta = {}
for i, value in ipairs(redis.call('HMGET', KEYS[2], unpack(FIELDS))) do meta[FIELDS[i]] = value end
local attempts = tonumber(meta.attempts or 0)
local lease = redis.call('GET', KEYS[3])
local now_ms = read_clock()
local epoch = math.max(now_ms, tonumber(meta.epoch or 0) + 1, last_epoch + 1)

local ATTEMPTS_SPENT = 3
local function reply(code, at_epoch, why, wait_ms) return {code, at_epoch, last_seq, attempts, why or 0, wait_ms or 0} end
local function refuse(code, wait_ms) return reply(code, last_epoch, 0, wait_ms) end
local function refuse_over() return reply(0, last_epoch, meta.dead and ATTEMPTS_SPENT) end

local function write(event)
  local id = add_entry(KEYS[1], KEYS[4], epoch, last_seq + 1, event, arg.version, bytes)
  last_seq = last_seq + 1
  return id
end
-- Whether no other worker has the lease. epoch: the caller's own, as text.
local function is_leasable(epoch) return not lease or lease == arg.worker .. ':' .. epoch end
local function take_lease(epoch) redis.call('SET', KEYS[3], arg.worker .. ':' .. epoch, 'PX', arg.lease_ms) end

-- is_next: another attempt or a re-based one begins, which an `attempt` entry announces; reason: why, if not worker_lost.
local function grant(is_next, reason)
  take_lease(digits(epoch))
  redis.call('HSET', KEYS[2], 'epoch', digits(epoch), 'attempts', attempts, 'status', 'running',
    'worker', arg.worker, 'leased_ms', arg.lease_ms)
  redis.call('HDEL', KEYS[2], 'retry_ms', 'broken', 'rebased_from')
  redis.call('HSETNX', KEYS[2], 'started_ms', digits(now_ms))
  redis.call('PEXPIRE', KEYS[2], digits(tonumber(arg.live_ttl_ms) + META_OUTLIVES_LOG_MS))
  if is_next then
    redis.call('HSET', KEYS[2], 'void_seq', last_seq, 'void_bytes', bytes)
    write(string.format('{"type":"attempt","attempt":%d%s}', attempts, reason and ',"reason":"' .. reason .. '"' or ''))
    redis.call('PEXPIRE', KEYS[1], arg.live_ttl_ms)
  end
  return reply(1, epoch)
end
-- The reply to an earlier grant was lost: the same grant, with its whole lease.
local function repeat_grant()
  take_lease(meta.epoch)
  return reply(1, tonumber(meta.epoch))
end
