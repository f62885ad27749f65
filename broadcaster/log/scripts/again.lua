-- again: the provider of a running attempt broke off, and its holder begins another one: a newer epoch and the `attempt`
-- entry in one step, as with a claim, but the lease and the job stay where they are. Safe to repeat, also when the lease
-- has lapsed since. It counts as an attempt, and as no loss of a worker (broken_off, for the back-off of the next claim).
-- KEYS log, meta, lease, live channel
-- ARGV worker, epoch held, lease_ms, max_attempts, live_ttl_ms, format version
-- Returns {code, epoch, last seq, attempt}: 1 granted, 2 refused (a stop was asked for, or the attempts are spent: the
-- holder ends it), 0 over already, -1 not its own any more, -3 meta is gone or older than its grant (its writer restores
-- it): Redis came back with what it was before, which proves nothing (see renew).
-- @include tail
-- @include held
local META_OUTLIVES_LOG_MS = 3600000
local worker, epoch_held = ARGV[1], tonumber(ARGV[2])
local last_epoch, last_seq, bytes, closed = read_tail(KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'attempts', 'stop', 'handed_back', 'broken', 'status')
local held, held_epoch = read_held(KEYS[3])
local granted = tonumber(meta[1] or 0)
local attempts = tonumber(meta[2] or 0)
local function refuse(code) return {code, last_epoch, last_seq, attempts} end

if closed then return refuse(0) end
local is_mine = not held or held == worker .. ':' .. (meta[1] or '')
if meta[5] == ARGV[2] and meta[6] == 'running' and is_mine then
  -- It was granted already in the place of this epoch, and the answer lost.
  redis.call('SET', KEYS[3], worker .. ':' .. meta[1], 'PX', ARGV[3])
  return {1, granted, last_seq, attempts}
end
if math.max(granted, held_epoch, last_epoch) > epoch_held then return refuse(-1) end
if granted < epoch_held then return refuse(-3) end
if held_epoch == epoch_held and not is_mine then return refuse(-1) end
-- What was handed back was no fault of anybody's.
if meta[3] or attempts - tonumber(meta[4] or 0) >= tonumber(ARGV[4]) then return refuse(2) end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local epoch = math.max(now_ms, granted + 1, last_epoch + 1)
local json = string.format('{"type":"attempt","attempt":%d,"reason":"provider_lost"}', attempts + 1)
redis.call('SET', KEYS[3], worker .. ':' .. string.format('%.0f', epoch), 'PX', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', string.format('%.0f', epoch), 'attempts', attempts + 1, 'broken', ARGV[2],
  'void_seq', last_seq, 'void_bytes', bytes)
redis.call('HDEL', KEYS[2], 'rebased_from')
redis.call('HINCRBY', KEYS[2], 'broken_off', 1)
redis.call('XADD', KEYS[1], string.format('%.0f-%.0f', epoch, last_seq + 1), 'e', json, 'v', ARGV[6],
  'b', bytes + #json)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], tonumber(ARGV[5]) + META_OUTLIVES_LOG_MS)
redis.call('SPUBLISH', KEYS[4], string.format('1 %.0f %.0f 1\n%s', epoch, last_seq + 1, json))
return {1, epoch, last_seq + 1, attempts + 1}
