-- dequeue: a generation is deleted; its job, if nobody has settled it yet, and its place in the open index go too.
-- KEYS ready, ready:hi, delayed, open
-- ARGV generation id
-- Returns how many jobs were removed. The open index scores a generation by the milliseconds of its newest job's id.
local removed = redis.call('ZREM', KEYS[3], ARGV[1])
local score = redis.call('ZSCORE', KEYS[4], ARGV[1])
if not score then return removed end
local ms = string.format('%.0f', tonumber(score))
for i = 1, 2 do
  for _, entry in ipairs(redis.call('XRANGE', KEYS[i], ms, ms)) do
    if entry[2][2] == ARGV[1] then removed = removed + redis.call('XDEL', KEYS[i], entry[1]) end
  end
end
redis.call('ZREM', KEYS[4], ARGV[1])
return removed
