-- token_revoke: refuse tokens that were issued until now, and record it until the last of them has expired anyway.
-- KEYS revoked, state
-- ARGV tenant, what is revoked (`jti <id>`, `sub <subject>`), for how many ms, most entries of a tenant, most entries of
-- all, ms between two prunings, by how much the version rises, the caller's time (ms)
-- Returns 1 recorded; there are as many entries as there may be: -1 of the tenant, -2 of all.
-- An entry is `<tenant> <what>` → `<revoked at> <until>`, in ms: the first by the caller's clock, as tokens are dated by
-- such clocks, the second by Redis's. The state has the number of entries as `revoked`, and that of
-- a tenant's as `revoked:<tenant>`. A pruning removes the entries that are over and counts the others: at the first call,
-- each hour, and when there are too many, then no more often than it is allowed, as it reads them all.
-- @include clock
local HOUR_MS = 3600000
local now_ms = read_clock()
local until_ms, revoked_ms = now_ms + tonumber(ARGV[3]), tonumber(ARGV[8])
local name, own = ARGV[1] .. ' ' .. ARGV[2], 'revoked:' .. ARGV[1]
local function count(field) return tonumber(redis.call('HGET', KEYS[2], field) or 0) end
local function refusal()
  if count(own) >= tonumber(ARGV[4]) then return -1 end
  if count('revoked') >= tonumber(ARGV[5]) then return -2 end
end
local function prune()
  local counts, entries = {revoked = 0}, redis.call('HGETALL', KEYS[1])
  for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
    if string.sub(field, 1, 8) == 'revoked:' then redis.call('HDEL', KEYS[2], field) end
  end
  for at = 1, #entries, 2 do
    if tonumber(string.match(entries[at + 1], '%d+$')) < now_ms then
      redis.call('HDEL', KEYS[1], entries[at])
    else
      local field = 'revoked:' .. string.match(entries[at], '^[^ ]*')
      counts[field] = (counts[field] or 0) + 1
      counts.revoked = counts.revoked + 1
    end
  end
  for field, number in pairs(counts) do redis.call('HSET', KEYS[2], field, number) end
  redis.call('HSET', KEYS[2], 'pruned_ms', digits(now_ms))
end
local old = redis.call('HGET', KEYS[1], name)
if old then
  until_ms = math.max(until_ms, tonumber(string.match(old, '%d+$')))
  revoked_ms = math.max(revoked_ms, tonumber(string.match(old, '^%d+')))
else
  local pruned_ms = tonumber(redis.call('HGET', KEYS[2], 'pruned_ms') or -HOUR_MS)
  local apart_ms = refusal() and tonumber(ARGV[6]) or HOUR_MS
  -- The clock may have stepped back.
  if math.abs(now_ms - pruned_ms) >= apart_ms then prune() end
  local refused = refusal()
  if refused then return refused end
  redis.call('HINCRBY', KEYS[2], own, 1)
  redis.call('HINCRBY', KEYS[2], 'revoked', 1)
end
redis.call('HSET', KEYS[1], name, digits(revoked_ms) .. ' ' .. digits(until_ms))
redis.call('HINCRBY', KEYS[2], 'version', ARGV[7])
return 1
