-- include/tail: the log's newest entry. KEYS and ARGV are those of the script that includes it.
-- read_tail(log key) → epoch, seq, event bytes so far, whether it is a terminal event, its JSON; zeros for an empty log.
-- @include status
local function read_tail(key)
  local tail = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  if not tail then return 0, 0, 0, false end
  local epoch, seq = string.match(tail[1], '^(%d+)-(%d+)$')
  local bytes, closed, event = 0, false, nil
  for i = 1, #tail[2], 2 do
    local name, value = tail[2][i], tail[2][i + 1]
    if name == 'b' then bytes = tonumber(value) end
    if name == 'e' then event, closed = value, status_of(value) ~= nil end
  end
  return tonumber(epoch), tonumber(seq), bytes, closed, event
end
