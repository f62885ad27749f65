-- heartbeat: a worker lives.
-- KEYS workers
-- ARGV worker, ttl_ms, keep_ms, most workers kept
-- Returns how many workers live. Lapsed ones are kept for keep_ms: they tell front-ends since when no worker lives.
-- Works on a full Redis: only a script's first write is refused for memory, and ZREMRANGEBYSCORE needs none. Otherwise
-- the workers of a full Redis would look dead, and waiting generations would be ended.
-- @include clock
local now_ms = read_clock()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now_ms - tonumber(ARGV[3])))
redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now_ms), '+inf')
