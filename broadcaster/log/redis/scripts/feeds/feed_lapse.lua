-- feed_lapse: end a feed whose writers have let its lease lapse. The caller has only seen that the lease is missing; the
-- script decides, in the step that ends it. So any number of callers write one end, and a writer that comes back is either
-- before it (and keeps the feed open) or behind it (and learns that the feed is closed).
-- KEYS log, meta, live channel, lease
-- ARGV error JSON, format version, may_end (0: this process has not seen Redis answer for the lease)
-- Returns 2 ended here, and it has a webhook, 1 ended here, 0 nothing to end (unknown, over, without a lease, or leased), -1 Redis is full: later.
-- @include clock
-- @include expiry
-- @include feed_tail
local json = ARGV[1]
local meta = redis.call('HMGET', KEYS[2], 'kind', 'status', 'lease_ms', 'last_id', 'retention_ms', 'created_ms', 'webhook',
  'since_epoch')
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

local now_ms = read_clock()
-- The left half of an entry's id is the time of its append: front-ends from before leases append without renewing one.
-- A time ahead of the clock is from before a step back, and does not count.
local left_ms = math.max(last_epoch, tonumber(meta[6])) + lease_ms - now_ms
if left_ms > 0 and left_ms <= lease_ms then
  redis.pcall('SET', KEYS[4], 'feed', 'PX', digits(left_ms))
  return 0
end

local epoch, seq = math.max(now_ms, least_epoch, tonumber(meta[8] or 0)), last_seq + 1
local id = string.format('%.0f-%.0f', epoch, seq)
local written = redis.pcall('XADD', KEYS[1], id, 'e', json, 'v', ARGV[2], 'b', digits(bytes + #json))
if type(written) == 'table' and written.err then return -1 end
redis.call('HSET', KEYS[2], 'last_id', id, 'status', 'failed', 'ended_ms', digits(now_ms),
  'terminal', json, 'terminal_id', id)
keep_stream(KEYS[1], KEYS[2], meta[5])
redis.call('SPUBLISH', KEYS[3], string.format('1 %.0f %.0f 1 %.0f\n', epoch, seq, last_epoch) .. json)
return meta[7] and 2 or 1
