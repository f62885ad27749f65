-- include/feed_tail: where a feed goes on; stands behind include/tail. KEYS and ARGV are those of the script that includes
-- it.
-- read_feed_tail(log key, meta's last_id) → epoch and seq of the newest entry (also of a log that has expired), event
-- bytes so far, whether it is a terminal event, and the least epoch of the next entry: a newer one than any that was told
-- when the log lost its tail.
local function read_feed_tail(log_key, last_id)
  local epoch, seq, bytes, closed = read_tail(log_key)
  local least_epoch = epoch
  if last_id then
    local told_epoch, told_seq = string.match(last_id, '^(%d+)-(%d+)$')
    told_epoch, told_seq = tonumber(told_epoch), tonumber(told_seq)
    if told_seq > seq then least_epoch = told_epoch + 1 end
    if seq == 0 then epoch, seq = told_epoch, told_seq end
  end
  return epoch, seq, bytes, closed, least_epoch
end
