-- webhook_take: take members whose time has come; until the lease ends nobody else takes them.
-- KEYS promised or due, what the clock was when they were taken last
-- ARGV most at once, lease_ms
-- Returns {end of the lease in ms, id ...}. The end is their new score, and the proof of who took them.
-- When the clock has stepped back since then, all times ahead are set back by as much: nothing waits for the older clock,
-- and no lease is shorter for it. A full Redis does not note the clock.
local NOTED_EVERY_MS, NOTE_KEPT_MS = 1000, 86400000
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local noted_ms = tonumber(redis.call('GET', KEYS[2]) or now_ms - NOTED_EVERY_MS)
if noted_ms - now_ms >= NOTED_EVERY_MS then
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now_ms), '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do
    redis.call('ZADD', KEYS[1], string.format('%.0f', tonumber(ahead[i + 1]) - noted_ms + now_ms), ahead[i])
  end
end
if math.abs(now_ms - noted_ms) >= NOTED_EVERY_MS then
  redis.pcall('SET', KEYS[2], string.format('%.0f', now_ms), 'PX', NOTE_KEPT_MS)
end
local until_ms = now_ms + tonumber(ARGV[2])
local answer = {until_ms}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', until_ms), id)
  answer[#answer + 1] = id
end
return answer
