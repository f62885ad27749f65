-- presence: a front-end says how many viewers it has on a stream (a lease: a killed front-end stops counting).
-- KEYS viewers
-- ARGV front-end, count, ttl_ms
-- Returns the viewers of all living front-ends.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms))
local total = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local front_end, count = string.match(member, '^(.*):(%d+)$')
  if front_end == ARGV[1] then redis.call('ZREM', KEYS[1], member) else total = total + tonumber(count) end
end
if tonumber(ARGV[2]) > 0 then
  redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[3]), ARGV[1] .. ':' .. ARGV[2])
  total = total + tonumber(ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[3]) * 2)
return total
