-- record: put a generation among its tenant's recent ones.
-- KEYS recent
-- ARGV generation id, when it was created in microseconds (0: now), most kept, ttl_ms
-- Returns 1 recorded, 0 it was there. No two have the same score: a page ends between two scores.
-- @include clock
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local time = redis.call('TIME')
local score = tonumber(ARGV[2])
if score == 0 then score = tonumber(time[1]) * 1000000 + tonumber(time[2]) end
while redis.call('ZCOUNT', KEYS[1], digits(score), digits(score)) > 0 do
  score = score + 1
end
redis.call('ZADD', KEYS[1], digits(score), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
