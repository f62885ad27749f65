-- include/viewers: what a stream's presence key says. KEYS and ARGV are those of the script that includes it.
-- Members are `<front-end>:<count>`, scored by when that word lapses, and, of a generation that can be abandoned, one
-- mark, `:0`: somebody has watched it; its score is inf while anybody does, else since when zero viewers have been observed.
local WATCHED = ':0'
-- read_viewers(key, now_ms) → viewers of all living front-ends, and the mark's score as text (nil: there is none).
-- Works on a full Redis: what is removed and pushed out here asks for no memory, and what a script writes after passes.
local function read_viewers(key, now_ms)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  local total, mark = 0, nil
  for i = 1, #rows, 2 do
    local member, score = rows[i], rows[i + 1]
    if member == WATCHED then
      mark = score
    elseif tonumber(score) > now_ms then
      total = total + tonumber(string.match(member, ':(%d+)$'))
    else
      redis.call('ZREM', key, member)
    end
  end
  return total, mark
end
-- mark_viewers(key, total, mark, now_ms) → since when nobody watches (nil: somebody does).
local function mark_viewers(key, total, mark, now_ms)
  if total > 0 then
    if mark ~= 'inf' then redis.call('ZADD', key, '+inf', WATCHED) end
    return nil
  end
  if mark and mark ~= 'inf' then return tonumber(mark) end
  redis.call('ZADD', key, string.format('%.0f', now_ms), WATCHED)
  return now_ms
end
