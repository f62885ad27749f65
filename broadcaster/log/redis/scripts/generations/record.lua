-- record: put a stream among its tenant's recent ones of its kind.
-- KEYS recent, recent ones of the other kind
-- ARGV stream id, when it was created in microseconds (0: now), most kept, ttl_ms, whether an entry that is there is
--      replaced (0, 1)
-- Returns 1 recorded, 0 it was there. No two, of either kind, have the same score: a page ends between two scores.
-- One that is created now comes first, also when the clock has stepped back: no reader takes a score for a time.
-- @include clock
local function keep()
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
end
if ARGV[5] ~= '1' and redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  keep()
  return 0
end
local score = tonumber(ARGV[2])
if score == 0 then
  local time = redis.call('TIME')
  score = tonumber(time[1]) * 1000000 + tonumber(time[2])
  for _, key in ipairs(KEYS) do
    local newest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
    score = math.max(score, tonumber(newest[2] or 0) + 1)
  end
end
local function is_taken()
  for _, key in ipairs(KEYS) do
    if redis.call('ZCOUNT', key, digits(score), digits(score)) > 0 then return true end
  end
end
while is_taken() do
  score = score + 1
end
redis.call('ZADD', KEYS[1], digits(score), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
keep()
return 1
