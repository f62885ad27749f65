-- promote: move generations whose back-off is over into the queue, ahead of those that have not begun.
-- KEYS ready:hi, open, delayed
-- ARGV most at once, longest back-off in ms
-- Returns how many were moved. The tenant of each is in the key `<delayed>:<id>` (see settle). Where that is missing, a
-- worker of an earlier version has settled the job, and the new one names no tenant.
-- @include clock
local now_ms = read_clock()
local due = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', digits(now_ms), 'LIMIT', 0, ARGV[1])
-- What is due later than any back-off lasts was written before a step back of the clock.
local ahead = string.format('(%.0f', now_ms + tonumber(ARGV[2]))
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], ahead, '+inf', 'LIMIT', 0, ARGV[1])) do due[#due + 1] = id end
for _, id in ipairs(due) do
  local tenant_key = KEYS[3] .. ':' .. id
  local tenant = redis.call('GET', tenant_key)
  redis.call('ZREM', KEYS[3], id)
  redis.call('DEL', tenant_key)
  local entry = redis.call('XADD', KEYS[1], '*', 'id', id, unpack(tenant and {'tenant', tenant} or {}))
  redis.call('ZADD', KEYS[2], tonumber(string.match(entry, '^(%d+)')), id)
end
return #due
