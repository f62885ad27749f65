-- webhook_record: store how an attempt to deliver a webhook ended.
-- KEYS meta, log
-- ARGV state ('' while the delivery is retried), HTTP status ('': no response), fault ('': none), created_ms of the stream that was read
-- Returns 1 stored, 0 the stream is gone or deleted, or another stream has its id now.
-- Until a final state the stream is kept for the webhook; from then on the caller's own retention counts.
-- Works on a full Redis: only a script's first write is refused for memory, and HDEL needs none.
-- @include clock
-- @include expiry
local meta = redis.call('HMGET', KEYS[1], 'webhook_state', 'asked_retention_ms', 'ended_ms', 'webhook', 'created_ms')
if not meta[4] or meta[5] ~= ARGV[4] then return 0 end
if meta[1] == 'delivered' then return 1 end
redis.call('HDEL', KEYS[1], 'webhook_fault') -- it is written next
redis.call('HSET', KEYS[1], 'webhook_status', ARGV[2], 'webhook_fault', ARGV[3])
if ARGV[1] == '' then return 1 end
redis.call('HSET', KEYS[1], 'webhook_state', ARGV[1])
if meta[2] and meta[3] then
  keep_stream(KEYS[2], KEYS[1], digits(math.max(1, tonumber(meta[3]) + tonumber(meta[2]) - read_clock())))
end
return 1
