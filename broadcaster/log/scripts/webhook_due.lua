-- webhook_due: these generations are over and have a webhook each: it is due now, also where its promise was lost.
-- KEYS promised, due
-- ARGV generation id ...
-- Returns how many became due. One that is due already (waiting, or being delivered) stays as it is.
-- Works on a full Redis: memory is asked for before a script's first write, and ZREM needs none. ZREM is called once, and
-- nothing of its key follows: in a slot that is being migrated, a key that a script has emptied is elsewhere.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZREM', KEYS[1], unpack(ARGV))
local added = 0
for _, id in ipairs(ARGV) do added = added + redis.call('ZADD', KEYS[2], 'NX', now_ms, id) end
return added
