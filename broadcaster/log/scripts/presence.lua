-- presence: a front-end says how many viewers it has on a stream (a lease: a killed front-end stops counting). Whoever
-- says anything, also that its viewers are gone, had some: a generation that can be abandoned has been watched.
-- KEYS viewers, meta
-- ARGV front-end, count, ttl_ms, keep_ms
-- Returns the viewers of all living front-ends.
-- @include viewers
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local meta = redis.call('HMGET', KEYS[2], 'status', 'on_abandon')
local is_marked = meta[2] == 'cancel' and (meta[1] == 'queued' or meta[1] == 'running')
local keep_ms = is_marked and ARGV[4] or tonumber(ARGV[3]) * 2
local count, word = tonumber(ARGV[2]), ARGV[1] .. ':' .. ARGV[2]
-- On a full Redis a first write that asks for no memory lets the rest pass: a viewer must not stop counting for that.
redis.call('PEXPIRE', KEYS[1], keep_ms)
local total, mark, gone = read_viewers(KEYS[1], now_ms, ARGV[3], ARGV[1], count > 0 and word)
total = total + count
if count > 0 then redis.call('ZADD', KEYS[1], string.format('%.0f', now_ms + tonumber(ARGV[3])), word) end
if is_marked then mark_viewers(KEYS[1], total, mark, now_ms) end
redis.call('PEXPIRE', KEYS[1], keep_ms)
drop_viewers(KEYS[1], gone)
return total
