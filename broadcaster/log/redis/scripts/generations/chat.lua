-- chat: a generation is its chat's latest answer, unless a newer one is.
-- KEYS chat
-- ARGV created_ms of the generation, the chat's value (JSON), keep_ms
-- Returns 1 set, 0 refused: the chat has this answer already, or one that was created later. A value without a time is
-- of an earlier version, which is replaced. So is one from the future: the clock has stepped back since.
-- @include clock
local latest = redis.call('GET', KEYS[1])
if latest then
  local now_ms = read_clock()
  local latest_ms = tonumber(string.match(latest, '"created_ms":(%d+)') or 0)
  if latest_ms >= tonumber(ARGV[1]) and latest_ms <= now_ms then return 0 end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
