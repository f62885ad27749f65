-- webhook_due: these generations are over and have a webhook each: it is due now, also where its promise was lost.
-- KEYS promised, due
-- ARGV 1: they have ended just now (0: perhaps before), generation id ...
-- Returns how many became due. One that is due already (waiting, or being delivered) stays as it is, unless its stream has
-- ended just now: then what is due is the webhook of a former stream with this id.
-- Works on a full Redis: only a script's first write is refused for memory, and ZREM needs none. ZREM is called once, and
-- nothing of its key follows: in a slot that is being migrated, a key that a script has emptied is elsewhere.
-- @include clock
local now_ms = digits(read_clock())
redis.call('ZREM', KEYS[1], unpack(ARGV, 2))
local added = 0
for i = 2, #ARGV do
  if ARGV[1] == '1' then
    redis.call('ZADD', KEYS[2], now_ms, ARGV[i])
    added = added + 1
  else
    added = added + redis.call('ZADD', KEYS[2], 'NX', now_ms, ARGV[i])
  end
end
return added
