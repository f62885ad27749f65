-- stored: the bytes kept for one tenant, stream by stream: record what was added or measured, return the sums, and hand out
-- streams that are due to be measured.
-- KEYS stored (hash: stream → `<bytes> <1: an open feed, else 0>`; `~bytes` and `~feeds`: the sums), due (sorted set:
--      stream → when it is to be measured, in milliseconds)
-- ARGV keep_ms, `add` or `set`, most streams to hand out, ms until one is handed out once more, longest ms until one is
--      to be measured,
--      then of each stream: id, bytes (set: below 0 there is none), open feed (0, 1), ms until it is to be measured ('' as
--      before; a new one now)
-- Returns {bytes, open feeds, id ...}, or {-1} when Redis is full: nothing was done.
-- When Redis has lost `due`, all streams of `stored` are due now. When it has lost `stored`, each stream of `due` counts
-- again once it is measured.
-- @include clock
local EACH_FROM, EACH = 6, 4
local keep_ms, sets = tonumber(ARGV[1]), ARGV[2] == 'set'
local sums = redis.call('HMGET', KEYS[1], '~bytes', '~feeds')
local bytes, feeds = tonumber(sums[1] or 0), tonumber(sums[2] or 0)
local written = redis.pcall('HSET', KEYS[1], '~bytes', digits(bytes))
if type(written) == 'table' and written.err then return {-1} end
local now = read_clock()
local function ms(at) return digits(at) end
if redis.call('EXISTS', KEYS[2]) == 0 then
  for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(id, 1, 1) ~= '~' then redis.call('ZADD', KEYS[2], ms(now), id) end
  end
end

for i = EACH_FROM, #ARGV, EACH do
  local id, size, is_feed, wait_ms = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2] == '1', ARGV[i + 3]
  local value = redis.call('HGET', KEYS[1], id)
  local was, was_feed = 0, false
  if value then
    local number, flag = string.match(value, '^(%d+) (%d)$')
    was, was_feed = tonumber(number), flag == '1'
  end
  if sets and size < 0 then
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
    size, is_feed = 0, false
  else
    if not sets then size, is_feed = was + size, is_feed or was_feed end
    redis.call('HSET', KEYS[1], id, string.format('%.0f %d', size, is_feed and 1 or 0))
    if wait_ms ~= '' then
      redis.call('ZADD', KEYS[2], ms(now + tonumber(wait_ms)), id)
    else
      redis.call('ZADD', KEYS[2], 'NX', ms(now), id)
    end
  end
  bytes = bytes + size - was
  feeds = feeds + (is_feed and 1 or 0) - (was_feed and 1 or 0)
end
redis.call('HSET', KEYS[1], '~bytes', digits(bytes), '~feeds', digits(feeds))

local answer = {bytes, feeds}
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ms(now), 'LIMIT', 0, ARGV[3])
-- What is due later than any delay lasts was written before a step back of the clock.
local ahead = '(' .. ms(now + tonumber(ARGV[5]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], ahead, '+inf', 'LIMIT', 0, ARGV[3])) do due[#due + 1] = id end
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[2], ms(now + tonumber(ARGV[4])), id)
  answer[#answer + 1] = id
end
for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) < keep_ms / 2 then redis.call('PEXPIRE', key, ARGV[1]) end
end
return answer
