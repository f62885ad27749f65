-- webhook_take: take members whose time has come; until the lease ends nobody else takes them.
-- KEYS promised or due
-- ARGV most at once, lease_ms
-- Returns {end of the lease in ms, id ...}. The end is their new score, and the proof of who took them.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_ms = now_ms + tonumber(ARGV[2])
local answer = {until_ms}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', until_ms), id)
  answer[#answer + 1] = id
end
return answer
