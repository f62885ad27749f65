-- promote: move what has waited long enough from the back-off set into the queue, before what nobody watches yet.
-- KEYS ready:hi, open, delayed
-- ARGV most at once, longest back-off in ms
-- Returns how many were moved.
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now_ms), 'LIMIT', 0, ARGV[1])
-- What is due later than any back-off lasts was written before a step back of the clock.
local ahead = string.format('(%.0f', now_ms + tonumber(ARGV[2]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], ahead, '+inf', 'LIMIT', 0, ARGV[1])) do due[#due + 1] = id end
for _, id in ipairs(due) do
  redis.call('ZREM', KEYS[3], id)
  local entry = redis.call('XADD', KEYS[1], '*', 'id', id)
  redis.call('ZADD', KEYS[2], tonumber(string.match(entry, '^(%d+)')), id)
end
return #due
