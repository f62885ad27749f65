-- abandon: check a generation that is to end when it has no viewers. If zero viewers have been observed for the grace,
-- store the stop request and notify the worker.
-- KEYS viewers, meta, control channel
-- ARGV grace_ms, keep_ms, may_fire (0: this process has not seen Redis answer for so long), presence ttl_ms
-- Returns 3 abandoned now, 2 it has no viewers, 1 it has some, 0 nothing is known of viewers (it never had one, or Redis
-- lost the key: neither counts as zero), -1 not to be abandoned (over, stopped, another policy, gone).
-- @include clock
-- @include status
-- @include viewers
local meta = redis.call('HMGET', KEYS[2], 'status', 'stop', 'on_abandon')
local status = meta[1]
if not status or is_over(status) then return -1 end
if meta[2] or meta[3] ~= 'cancel' then return -1 end
-- Also the first write, which a full Redis takes: all that follows passes, too.
if redis.call('PEXPIRE', KEYS[1], ARGV[2]) == 0 then return 0 end
local now_ms = read_clock()
local total, mark, gone = read_viewers(KEYS[1], now_ms, ARGV[4])
local since_ms = mark and mark_viewers(KEYS[1], total, mark, now_ms)
drop_viewers(KEYS[1], gone)
if not mark then return 0 end
if not since_ms then return 1 end
if ARGV[3] == '0' or now_ms - since_ms < tonumber(ARGV[1]) then return 2 end
redis.call('HSET', KEYS[2], 'stop', 'abandoned', 'stop_ms', digits(now_ms))
redis.call('SPUBLISH', KEYS[3], 'stop abandoned')
return 3
