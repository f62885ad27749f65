-- webhook_tell: write down how an attempt to deliver a webhook ended.
-- KEYS meta, log
-- ARGV state ('' while it is tried again), HTTP status ('' when none came), fault ('' when none)
-- Returns 1 written, 0 the generation is gone or deleted.
-- A final state also ends what was kept for the webhook's sake alone: the caller's own retention counts again.
local META_OUTLIVES_LOG_MS = 3600000
local meta = redis.call('HMGET', KEYS[1], 'webhook_state', 'asked_retention_ms', 'ended_ms', 'webhook')
if not meta[4] then return 0 end
if meta[1] == 'delivered' then return 1 end
redis.call('HSET', KEYS[1], 'webhook_status', ARGV[2], 'webhook_fault', ARGV[3])
if ARGV[1] == '' then return 1 end
redis.call('HSET', KEYS[1], 'webhook_state', ARGV[1])
if meta[2] and meta[3] then
  local time = redis.call('TIME')
  local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local left_ms = math.max(1, tonumber(meta[3]) + tonumber(meta[2]) - now_ms)
  redis.call('PEXPIRE', KEYS[2], string.format('%.0f', left_ms))
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', left_ms + META_OUTLIVES_LOG_MS))
end
return 1
