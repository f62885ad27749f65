-- include/feed_tail: where a feed goes on. KEYS and ARGV are those of the script that includes it.
-- read_feed_tail(log key, meta's last_id) → epoch and seq of the newest entry (also of a log that has expired), event
-- bytes so far, whether it is a terminal event, and the least epoch of the next entry, which is newer than last_id's when
-- the log lost its tail.
-- @include tail
local function read_feed_tail(log_key, last_id)
  local epoch, seq, bytes, closed = read_tail(log_key)
  local least_epoch = epoch
  if last_id then
    local written_epoch, written_seq = string.match(last_id, '^(%d+)-(%d+)$')
    written_epoch, written_seq = tonumber(written_epoch), tonumber(written_seq)
    if written_seq > seq then least_epoch = written_epoch + 1 end
    if seq == 0 then epoch, seq = written_epoch, written_seq end
  end
  return epoch, seq, bytes, closed, least_epoch
end
