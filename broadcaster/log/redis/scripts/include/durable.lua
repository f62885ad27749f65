-- include/durable: the entries of a Durable Stream, and how long it is kept. KEYS and ARGV are those of the script that
-- includes it.
-- read_durable_tail(log key, meta's last_id) → the end of the log by names, and whether it is closed (feed_tail).
-- arguments_from(place) → ARGV from there on.
-- add_durable(keys, tail, events, end event, version, push_max_bytes) → the left half of the new ids, the seq of the last
-- entry of content, the seq of the last entry. Adds the events, then the end event ('' none), and pushes them in the same
-- step. keys: log, live channel.
-- keep_durable(log key, meta key, producers key, its ttl_s, its expires_ms, now_ms, otherwise for how long): all of it
-- goes at once, so that no reader finds a stream that has lost its beginning.
-- @include clock
-- @include feed_tail
local function read_durable_tail(log_key, last_id)
  local epoch, seq, bytes, closed, least_epoch = read_feed_tail(log_key, last_id)
  return {epoch = epoch, seq = seq, bytes = bytes, least_epoch = least_epoch}, closed
end
local function arguments_from(place)
  local found = {}
  for i = place, #ARGV do found[#found + 1] = ARGV[i] end
  return found
end
local function add_durable(keys, tail, events, ending, version, push_max_bytes)
  local epoch, seq, bytes, added = math.max(read_clock(), tail.least_epoch), tail.seq, tail.bytes, 0
  local parts = {''}
  local function add(event)
    seq, bytes, added = seq + 1, bytes + #event, added + #event
    redis.call('XADD', keys.log, digits(epoch) .. '-' .. digits(seq), 'e', event, 'v', version, 'b', digits(bytes))
    parts[#parts + 1] = event
  end
  for _, event in ipairs(events) do add(event) end
  local content_seq = seq
  if ending ~= '' then add(ending) end
  parts[1] = string.format('1 %.0f %.0f %.0f %.0f', epoch, tail.seq + 1, #parts - 1, tail.epoch)
  -- A batch over the bound is pushed as its head alone, a poke: the front-end reads it from the log.
  redis.call('SPUBLISH', keys.live, added <= tonumber(push_max_bytes) and table.concat(parts, '\n') or parts[1])
  return epoch, content_seq, seq
end
local function keep_durable(log_key, meta_key, producers_key, ttl_s, expires_ms, now_ms, otherwise_ms)
  local left_ms = ttl_s and tonumber(ttl_s) * 1000 or expires_ms and math.max(1, tonumber(expires_ms) - now_ms)
  for _, key in ipairs({log_key, meta_key, producers_key}) do
    redis.call('PEXPIRE', key, digits(left_ms or tonumber(otherwise_ms)))
  end
end
