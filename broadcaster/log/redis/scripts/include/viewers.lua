-- include/viewers: a stream's presence key. KEYS and ARGV are those of the script that includes it.
-- Members are reports, `<front-end>:<count>`, scored by when they lapse. A generation that can be abandoned also has one
-- mark, `:0`, once it has been watched: its score is inf while it has viewers, else since when zero viewers have been
-- observed.
-- @include clock
local WATCHED = ':0'
-- A member is removed last of all: in a slot that is being migrated, a key that a script has emptied is elsewhere.
-- read_viewers(key, now_ms, ttl_ms, front-end, its report) → viewers of all living front-ends (but this one), the mark's
-- score as text (nil: there is none), and the members that count no more (of this front-end: all but its report).
-- A report that counts for longer than ttl_ms is from before a step back of the clock: it is cut to that. A full Redis
-- takes the cut only behind another write of the same script.
local function read_viewers(key, now_ms, ttl_ms, front_end, report)
  local longest_ms = now_ms + tonumber(ttl_ms)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local total, mark, gone = 0, nil, {}
  for i = 1, #rows, 2 do
    local member, score = rows[i], rows[i + 1]
    local of, count = string.match(member, '^(.*):(%d+)$')
    if member == WATCHED then
      mark = score
    elseif member ~= report then
      if of == front_end or tonumber(score) <= now_ms then
        gone[#gone + 1] = member
      else
        total = total + tonumber(count)
        if tonumber(score) > longest_ms then redis.call('ZADD', key, digits(longest_ms), member) end
      end
    end
  end
  return total, mark, gone
end
-- drop_viewers(key, members): nothing of this key may follow it.
local function drop_viewers(key, gone)
  if #gone > 0 then redis.call('ZREM', key, unpack(gone)) end
end
-- mark_viewers(key, total, mark, now_ms) → since when there are no viewers (nil: there are some).
local function mark_viewers(key, total, mark, now_ms)
  if total > 0 then
    if mark ~= 'inf' then redis.call('ZADD', key, '+inf', WATCHED) end
    return nil
  end
  -- A time ahead of the clock is from before a step back.
  if mark and mark ~= 'inf' and tonumber(mark) <= now_ms then return tonumber(mark) end
  redis.call('ZADD', key, digits(now_ms), WATCHED)
  return now_ms
end
