-- webhook_due: these generations are over; the webhooks promised for them are due now.
-- KEYS promised, due
-- ARGV generation id ...
-- Returns how many became due. One that is due already (waiting, or being delivered) stays as it is.
-- Works on a full Redis: memory is asked for before a script's first write, and ZREM needs none. It is called once, and
-- nothing of its key follows: in a slot that is being migrated, a key that a script has emptied is elsewhere.
local time = redis.call('TIME')
local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local promised = {}
for _, id in ipairs(ARGV) do
  if redis.call('ZSCORE', KEYS[1], id) then promised[#promised + 1] = id end
end
if #promised == 0 then return 0 end
redis.call('ZREM', KEYS[1], unpack(promised))
local moved = 0
for _, id in ipairs(promised) do moved = moved + redis.call('ZADD', KEYS[2], 'NX', now_ms, id) end
return moved
