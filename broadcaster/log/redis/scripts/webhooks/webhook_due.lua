-- webhook_due: these generations are over and have a webhook each: it is due now, also where its promise was lost.
-- KEYS promised, due
-- ARGV generation id ...
-- Returns how many became due. One that is due already (waiting, or being delivered) stays as it is.
-- Works on a full Redis: only a script's first write is refused for memory, and ZREM needs none. ZREM is called once, and
-- nothing of its key follows: in a slot that is being migrated, a key that a script has emptied is elsewhere.
-- @include clock
local now_ms = digits(read_clock())
redis.call('ZREM', KEYS[1], unpack(ARGV))
local added = 0
for _, id in ipairs(ARGV) do added = added + redis.call('ZADD', KEYS[2], 'NX', now_ms, id) end
return added
