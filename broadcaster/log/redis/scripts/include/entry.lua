-- include/entry: one entry, written and pushed. KEYS and ARGV are those of the script that includes it.
-- add_entry(log key, live channel, epoch, seq, event JSON, format version, event bytes before it) → the entry's id
-- @include clock
local function add_entry(log_key, channel, epoch, seq, event, version, bytes)
  local id = digits(epoch) .. '-' .. digits(seq)
  redis.call('XADD', log_key, id, 'e', event, 'v', version, 'b', digits(bytes + #event))
  redis.call('SPUBLISH', channel, '1 ' .. digits(epoch) .. ' ' .. digits(seq) .. ' 1\n' .. event)
  return id
end
