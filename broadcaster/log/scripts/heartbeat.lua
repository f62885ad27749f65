-- heartbeat: a worker says that it lives.
-- KEYS workers
-- ARGV worker, ttl_ms, keep_ms, most workers kept
-- Returns how many workers live. Lapsed ones are kept for keep_ms: front-ends read from them since when nobody lives.
-- Works on a full Redis: memory is asked for before a script's first write, and ZREMRANGEBYSCORE needs none. Else the
-- workers of a full Redis would look dead, and what waits would be ended for it.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now_ms - tonumber(ARGV[3])))
redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
return redis.call('ZCOUNT', KEYS[1], string.format('(%.0f', now_ms), '+inf')
