-- token_revoke: refuse tokens that were issued until now, and record it until the last of them has expired anyway.
-- KEYS revoked, state
-- ARGV what is revoked (`<tenant> jti <id>`, `<tenant> sub <subject>`), for how many ms, most entries
-- Returns 1 recorded, -1 there are as many entries as there may be.
-- An entry is `<now> <until>`, in ms. Entries that are over are removed when the list is full.
-- @include clock
local now_ms = read_clock()
local until_ms = now_ms + tonumber(ARGV[2])
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then until_ms = math.max(until_ms, tonumber(string.match(old, '%d+$'))) end
if not old and #redis.call('HKEYS', KEYS[1]) >= tonumber(ARGV[3]) then
  local entries = redis.call('HGETALL', KEYS[1])
  local is_free = false
  for at = 1, #entries, 2 do
    if tonumber(string.match(entries[at + 1], '%d+$')) < now_ms then
      redis.call('HDEL', KEYS[1], entries[at])
      is_free = true
    end
  end
  if not is_free then return -1 end
end
redis.call('HSET', KEYS[1], ARGV[1], digits(now_ms) .. ' ' .. digits(until_ms))
redis.call('HINCRBY', KEYS[2], 'version', 1)
return 1
