-- stop: write the wish down and tell the worker; the worker (or whoever claims next) ends the stream.
-- KEYS meta, control channel
-- ARGV reason
-- Returns 1 written and sent, -1 sent but not written (Redis full), 2 over already, 0 unknown.
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 0 end
if status == 'finished' or status == 'failed' or status == 'aborted' then return 2 end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local written = redis.pcall('HSET', KEYS[1], 'stop', ARGV[1], 'stop_ms', now_ms)
redis.call('SPUBLISH', KEYS[2], 'stop ' .. ARGV[1])
if type(written) == 'table' and written.err then return -1 end
return 1
