-- feed_lapse: end a feed that no writer has been heard of for its lease. Who looks has only seen that the lease is missing;
-- whether it is decided here, in the step that ends it: any number of lookers make one end, and a writer that comes back
-- is either before it (and keeps the feed open) or behind it (and is told that it is closed).
-- KEYS log, meta, live channel, lease
-- ARGV error JSON, format version, may_end (0: this process has not seen Redis answer for the lease)
-- Returns 1 ended here, 0 nothing to end (unknown, over, without a lease, or leased), -1 Redis is full: later.
-- @include tail
-- @include feed_tail
local META_OUTLIVES_LOG_MS = 3600000
local json = ARGV[1]
local meta = redis.call('HMGET', KEYS[2], 'kind', 'status', 'lease_ms', 'last_id', 'retention_ms', 'created_ms')
if meta[1] ~= 'feed' or meta[2] ~= 'queued' or not meta[3] then return 0 end
local lease_ms = tonumber(meta[3])
if redis.call('EXISTS', KEYS[4]) == 1 then
  -- More is left of it than it is long: the clock has stepped back since it was renewed.
  if redis.call('PTTL', KEYS[4]) > lease_ms then redis.call('PEXPIRE', KEYS[4], lease_ms) end
  return 0
end
if ARGV[3] == '0' then return 0 end
local last_epoch, last_seq, bytes, closed, least_epoch = read_feed_tail(KEYS[1], meta[4])
if closed then return 0 end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- The left half of an entry's id says when it was appended: front-ends of before leases append without pushing one out.
-- One that lies ahead of the clock was appended before a step back, and says nothing.
local left_ms = math.max(last_epoch, tonumber(meta[6])) + lease_ms - now_ms
if left_ms > 0 and left_ms <= lease_ms then
  redis.pcall('SET', KEYS[4], 'feed', 'PX', string.format('%.0f', left_ms))
  return 0
end

local epoch, seq = math.max(now_ms, least_epoch), last_seq + 1
local id = string.format('%.0f-%.0f', epoch, seq)
local written = redis.pcall('XADD', KEYS[1], id, 'e', json, 'v', ARGV[2], 'b', string.format('%.0f', bytes + #json))
if type(written) == 'table' and written.err then return -1 end
redis.call('HSET', KEYS[2], 'last_id', id, 'status', 'failed', 'ended_ms', string.format('%.0f', now_ms),
  'terminal', json, 'terminal_id', id)
redis.call('PEXPIRE', KEYS[1], meta[5])
redis.call('PEXPIRE', KEYS[2], tonumber(meta[5]) + META_OUTLIVES_LOG_MS)
redis.call('SPUBLISH', KEYS[3], string.format('1 %.0f %.0f 1 %.0f\n', epoch, seq, last_epoch) .. json)
return 1
