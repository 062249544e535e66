-- include: base activities taking
-- Lease visible activities to a worker.
-- ARGV: TakeRequest. Returns: now, next_at or '', those that are passed over since their rows cannot
-- be read, then the rows as `describe` gives them.

local asked = cmsgpack.unpack(ARGV[1])
local worker, limit = asked.worker, asked.limit
if not alive(worker) then
  return { now_exact, '', {} }
end

local excluded = set_of(asked.exclude)
local found, unreadable = {}, {}
local next_at

-- Return whether an activity is to be given, and its row.
local function is_wanted(token, place)
  local id, execution, command, life = parse_token(token)
  local row = load_activity(id, execution, command, life)
  if not row then
    zrem(place, token)
    return false
  end
  if row.damaged then
    unreadable[#unreadable + 1] = { id, command }
    return false
  end
  row.instance, row.execution, row.command, row.life = id, execution, command, life
  return not excluded[row.activity], row
end

-- Look through the activities of one queue and priority; return how many were found.
local function look_for_visible(queue, priority, most)
  local place = 'visible' .. lane(queue, priority)
  local of_lane = 0
  ascend(P .. place, '-inf', now, function(token, at)
    if of_lane >= most then
      return true
    end
    local wanted, row = is_wanted(token, place)
    if wanted then
      found[#found + 1] = { id = token, at = at, row = row, priority = priority }
      of_lane = of_lane + 1
    end
  end)
  ascend(P .. place, '(' .. now_exact, '+inf', function(token, at)
    if next_at and at >= next_at then
      return true
    end
    if not next(excluded) or is_wanted(token, place) then
      next_at = earlier(next_at, at)
      return true
    end
  end)
  return of_lane
end

for queue in pairs(set_of(asked.queues)) do
  local wanted = limit + 1
  for _, priority in ipairs(priorities_of(queue)) do
    wanted = wanted - look_for_visible(queue, priority, wanted)
  end
end
table.sort(found, by_rank)
if #found > limit then
  next_at = earlier(next_at, found[limit + 1].at)
end

local reply = { now_exact, next_at and exact(next_at) or '', unreadable }
for n = 1, math.min(limit, #found) do
  local token, row = found[n].id, found[n].row
  row.worker = worker
  store_activity(row.instance, row.execution, row.command, row.life, row)
  zrem('visible' .. lane(row.queue, row.priority), token)
  hold_activity(token, row.queue, worker, row.cancel)
  reply[#reply + 1] = describe(row.instance, row.execution, row.command, row.life, row)
end
flush()
return reply
