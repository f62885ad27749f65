-- newest_worker: until when the newest heartbeat of a worker counts.
-- KEYS workers
-- ARGV ttl_ms: how long a heartbeat counts
-- Returns {when that ends (0: no worker is known), now}, both in milliseconds.
-- A heartbeat that counts for longer is from before a step back of the clock: it is cut to that.
-- Works on a full Redis: only a script's first write is refused for memory, and PERSIST needs none.
-- @include clock
local CUT_AT_ONCE = 1000
local now_ms = read_clock()
local longest = digits(now_ms + tonumber(ARGV[1]))
for at, worker in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. longest, '+inf', 'LIMIT', 0, CUT_AT_ONCE)) do
  if at == 1 then redis.call('PERSIST', KEYS[1]) end
  redis.call('ZADD', KEYS[1], longest, worker)
end
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {tonumber(newest[2] or 0), now_ms}
