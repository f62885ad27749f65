-- create: write a queued generation's meta, once. For a generation that its creator watches, also write the creator's
-- report of one viewer, so that this viewer counts even if its front-end dies before its first report. So does the
-- creator that repeats an earlier create: a generation without other viewers is then not abandoned any more.
-- KEYS meta, viewers
-- ARGV ttl_ms, front-end that watches ('': none), its presence ttl_ms, keep_ms,
--      age_ms (0: it is new; else it was created so long ago, and Redis has lost it since), field, value ...
-- Returns 1 created, 0 it is there already.
-- @include clock
-- @include status
-- @include viewers
local FIELDS_FROM = 6
local now = read_clock()
local function watch()
  redis.call('ZADD', KEYS[2], digits(now + tonumber(ARGV[3])), ARGV[2] .. ':1')
  mark_viewers(KEYS[2], 1, nil, now)
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  local is_watched = ARGV[2] ~= '' and not is_over(redis.call('HGET', KEYS[1], 'status'))
  -- With other viewers nothing is to be written, and this front-end may have reported more than one.
  if is_watched and read_viewers(KEYS[2], now, ARGV[3]) == 0 then watch() end
  return 0
end
local fields = {'created_ms', digits(now - tonumber(ARGV[5]))}
for i = FIELDS_FROM, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then watch() end
return 1
