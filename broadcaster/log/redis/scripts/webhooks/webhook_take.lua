-- webhook_take: take members that are due; until the lease ends no other process takes them.
-- KEYS promised or due, what the clock was when they were taken last
-- ARGV most at once, lease_ms
-- Returns {end of the lease in ms, id ...}. The end is their new score, and proves which process took them.
-- When the clock has stepped back since then, all times ahead are set back by as much: nothing waits for the older clock,
-- and no lease is shorter for it.
-- Works on a full Redis: only a script's first write is refused for memory, and ZREM needs none. Otherwise the streams that
-- are over would keep their memory for webhooks that nothing delivers.
-- @include clock
local NOTED_EVERY_MS, NOTE_KEPT_MS = 1000, 86400000
local now_ms = read_clock()
redis.call('ZREM', KEYS[1], '') -- no id
local noted_ms = tonumber(redis.call('GET', KEYS[2]) or now_ms - NOTED_EVERY_MS)
if noted_ms - now_ms >= NOTED_EVERY_MS then
  local ahead = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now_ms), '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do
    redis.call('ZADD', KEYS[1], digits(tonumber(ahead[i + 1]) - noted_ms + now_ms), ahead[i])
  end
end
if math.abs(now_ms - noted_ms) >= NOTED_EVERY_MS then
  redis.call('SET', KEYS[2], digits(now_ms), 'PX', NOTE_KEPT_MS)
end
local until_ms = now_ms + tonumber(ARGV[2])
local answer = {until_ms}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', digits(now_ms), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], digits(until_ms), id)
  answer[#answer + 1] = id
end
return answer
