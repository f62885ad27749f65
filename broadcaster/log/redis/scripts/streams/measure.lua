-- measure: how many bytes a stream of a tenant takes, nearly: within a fifth of MEMORY USAGE once it holds 100 events.
-- KEYS meta, log, a feed's Idempotency-Keys
-- ARGV tenant
-- Returns {bytes (-1: the tenant has no such stream), 1 when it is an open feed, ms until it or its log expires (-1: it is
-- not over)}
-- meta, its expiry and the entry in the tenant's sums; the first block of a log; what an event and a key add to their
-- bytes; an idempotent producer of a Durable Stream.
-- @include status
local META, LOG, EVENT, KEY, PRODUCER = 1024, 4096, 24, 224, 128
-- The fields of a meta that may be longer than META. `request` includes the metadata; `terminal` outlives the log.
local SIZED = {'request', 'model', 'title', 'webhook', 'terminal'}
local meta = redis.call('HMGET', KEYS[1], 'tenant', 'kind', 'status', 'producers')
if meta[1] ~= ARGV[1] then return {-1, 0, 0} end
local function sizes(entry)
  local upto, size = 0, 0
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'b' then upto = tonumber(entry[2][i + 1]) end
    if entry[2][i] == 'e' then size = #entry[2][i + 1] end
  end
  return upto, size
end

local bytes = META + KEY * redis.call('ZCARD', KEYS[3])
bytes = bytes + PRODUCER * tonumber(meta[4] or 0)
for _, field in ipairs(SIZED) do bytes = bytes + redis.call('HSTRLEN', KEYS[1], field) end
local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if newest then
  local first_upto, first_size = sizes(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1])
  bytes = bytes + LOG + EVENT * redis.call('XLEN', KEYS[2]) + sizes(newest) - first_upto + first_size
end
if not is_over(meta[3]) then return {bytes, meta[2] == 'feed' and 1 or 0, -1} end
return {bytes, 0, math.max(0, redis.call('PTTL', newest and KEYS[2] or KEYS[1]))}
