-- create: write a queued generation's meta, once; and, for one that its creator watches, the creator's word on it, so
-- that a viewer whose front-end dies before it could say anything was there all the same.
-- KEYS meta, viewers
-- ARGV ttl_ms, front-end that watches ('': nobody does), its presence ttl_ms, keep_ms,
--      age_ms (0: it is new; else it was created so long ago, and Redis has lost it since), field, value ...
-- Returns 1 created, 0 it is there already.
-- @include viewers
local FIELDS_FROM = 6
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fields = {'created_ms', string.format('%.0f', now - tonumber(ARGV[5]))}
for i = FIELDS_FROM, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2] .. ':1')
  mark_viewers(KEYS[2], 1, nil, now)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
return 1
