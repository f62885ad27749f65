-- next_attempt: the provider of a running attempt broke off, and the worker begins another one: a newer epoch and the
-- `attempt` entry in one step, as with a claim, but the lease and the job stay. Safe to repeat, also when the lease has
-- lapsed since. It counts as an attempt, but not as the loss of a worker (broken_off, for the back-off of the next claim).
-- KEYS log, meta, lease, live channel
-- ARGV worker, its epoch, lease_ms, max_attempts, live_ttl_ms, format version
-- Returns {code, epoch, last seq, attempt}: 1 granted, 2 refused (a stop was requested, or the attempts are spent: the
-- worker ends it), 0 over already, -1 another worker's, -3 the meta is gone or older than the worker's grant (its writer
-- restores it): Redis came back with earlier data, which proves nothing (see renew).
-- @include clock
-- @include entry
-- @include expiry
-- @include lease
-- @include tail
local worker, own_epoch = ARGV[1], tonumber(ARGV[2])
local last_epoch, last_seq, bytes, closed = read_tail(KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'attempts', 'stop', 'handed_back', 'broken', 'status')
local lease, lease_epoch = read_lease(KEYS[3])
local granted = tonumber(meta[1] or 0)
local attempts = tonumber(meta[2] or 0)
local function refuse(code) return {code, last_epoch, last_seq, attempts} end

if closed then return refuse(0) end
local is_mine = not lease or lease == worker .. ':' .. (meta[1] or '')
if meta[5] == ARGV[2] and meta[6] == 'running' and is_mine then
  -- It was granted in the place of this epoch already, and the reply was lost.
  redis.call('SET', KEYS[3], worker .. ':' .. meta[1], 'PX', ARGV[3])
  return {1, granted, last_seq, attempts}
end
if math.max(granted, lease_epoch, last_epoch) > own_epoch then return refuse(-1) end
if granted < own_epoch then return refuse(-3) end
if lease_epoch == own_epoch and not is_mine then return refuse(-1) end
-- An attempt that was handed back does not count: nothing had failed.
if meta[3] or attempts - tonumber(meta[4] or 0) >= tonumber(ARGV[4]) then return refuse(2) end

local epoch = math.max(read_clock(), granted + 1, last_epoch + 1)
redis.call('SET', KEYS[3], worker .. ':' .. digits(epoch), 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', digits(epoch), 'attempts', attempts + 1, 'broken', ARGV[2],
  'void_seq', last_seq, 'void_bytes', bytes)
redis.call('HDEL', KEYS[2], 'rebased_from')
redis.call('HINCRBY', KEYS[2], 'broken_off', 1)
local event = string.format('{"type":"attempt","attempt":%d,"reason":"provider_lost"}', attempts + 1)
add_entry(KEYS[1], KEYS[4], epoch, last_seq + 1, event, ARGV[6], bytes)
keep_stream(KEYS[1], KEYS[2], ARGV[5])
return {1, epoch, last_seq + 1, attempts + 1}
