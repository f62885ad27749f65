-- stop: store a stop request and notify the worker; the worker, or the next claim, ends the stream.
-- KEYS meta, control channel
-- ARGV reason
-- Returns 1 written and sent, -1 sent but not written (Redis full), 2 over already, 0 unknown.
-- The first request stays: a repeated one is only sent, which works on a full Redis.
-- @include clock
-- @include status
local meta = redis.call('HMGET', KEYS[1], 'status', 'stop')
local status, reason = meta[1], meta[2]
if not status then return 0 end
if is_over(status) then return 2 end
local written
if not reason then
  local now_ms = digits(read_clock())
  reason = ARGV[1]
  written = redis.pcall('HSET', KEYS[1], 'stop', reason, 'stop_ms', now_ms)
end
redis.call('SPUBLISH', KEYS[2], 'stop ' .. reason)
if type(written) == 'table' and written.err then return -1 end
return 1
