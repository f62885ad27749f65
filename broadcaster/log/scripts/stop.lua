-- stop: write the wish down and tell the worker; the worker (or whoever claims next) ends the stream.
-- KEYS meta, control channel
-- ARGV reason
-- Returns 1 written and sent, -1 sent but not written (Redis full), 2 over already, 0 unknown.
-- The first wish stays: asked again it is only sent again, which a full Redis does not hinder.
local meta = redis.call('HMGET', KEYS[1], 'status', 'stop')
local status, reason = meta[1], meta[2]
if not status then return 0 end
if status == 'finished' or status == 'failed' or status == 'aborted' then return 2 end
local written
if not reason then
  local time = redis.call('TIME')
  local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
  reason = ARGV[1]
  written = redis.pcall('HSET', KEYS[1], 'stop', reason, 'stop_ms', now_ms)
end
redis.call('SPUBLISH', KEYS[2], 'stop ' .. reason)
if type(written) == 'table' and written.err then return -1 end
return 1
