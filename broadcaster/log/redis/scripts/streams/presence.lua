-- presence: a front-end reports how many viewers a stream has there (a lease: a killed front-end stops counting). A report,
-- also one of zero, shows that there were some: a generation that can be abandoned has been watched.
-- KEYS viewers, meta
-- ARGV front-end, count, ttl_ms, keep_ms
-- Returns the viewers of all living front-ends.
-- @include clock
-- @include viewers
local now_ms = read_clock()
local meta = redis.call('HMGET', KEYS[2], 'status', 'on_abandon')
local is_marked = meta[2] == 'cancel' and (meta[1] == 'queued' or meta[1] == 'running')
local keep_ms = is_marked and ARGV[4] or tonumber(ARGV[3]) * 2
local count, report = tonumber(ARGV[2]), ARGV[1] .. ':' .. ARGV[2]
-- On a full Redis a first write that needs no memory lets the rest pass: otherwise viewers would stop counting.
redis.call('PEXPIRE', KEYS[1], keep_ms)
local total, mark, gone = read_viewers(KEYS[1], now_ms, ARGV[3], ARGV[1], count > 0 and report)
total = total + count
if count > 0 then redis.call('ZADD', KEYS[1], digits(now_ms + tonumber(ARGV[3])), report) end
if is_marked then mark_viewers(KEYS[1], total, mark, now_ms) end
redis.call('PEXPIRE', KEYS[1], keep_ms)
drop_viewers(KEYS[1], gone)
return total
