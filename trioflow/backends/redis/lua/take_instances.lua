-- include: base limiting taking waiting
-- Lease ready instances to a worker, or one suspect.
-- ARGV: TakeRequest. Returns: now, next_at or '', 1 if a suspect is ready and free, then for each: id,
-- ready_at, row fields, inbox.

local asked = cmsgpack.unpack(ARGV[1])
local worker, limit = asked.worker, asked.limit
if not alive(worker) then
  return { now_exact, '', 0 }
end

local held = P .. 'held:' .. worker
local wanted_queues, excluded = set_of(asked.queues), set_of(asked.exclude)
local excluded_ids = set_of(asked.exclude_ids)
local next_at
local MOST_ASIDE = 500 -- are put aside, or come back, in one call
local number_aside = 0

-- Return the priority of an instance that is the worker's already, or nil if it is not wanted now:
-- only those of the queues are, or all of them if there is no limit.
local function mine_wanted(id)
  local row = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'workflow', 'priority')
  if limit == 0 or wanted_queues[row[1]] and not (excluded[row[2]] or excluded_ids[id]) then
    return tonumber(row[3]) or 0
  end
end

local function look_for_mine(found)
  ascend(held, '-inf', now, function(id, at)
    local priority = mine_wanted(id)
    if priority then
      found[#found + 1] = { id = id, at = at, priority = priority }
    end
  end)
  ascend(held, '(' .. now_exact, '(inf', function(id, at)
    if mine_wanted(id) then
      next_at = at
      return true
    end
  end)
end

-- The room that is left for instances of limited workflows that have not begun, and who has.
local limits = not asked.suspect and limit > 0 and may_have_limits() and load_limits() or no_limits()
local rooms = {}
for name, one in pairs(limits.workflow) do
  rooms[name] = one.concurrency - admitted_of(name)
end

-- Return whether an instance has to be admitted before it is taken.
local function is_outside(id, workflow, life)
  return rooms[workflow]
    and redis.call('HGET', P .. 'admitted:' .. workflow, id) ~= (life or '')
end

-- Return when the time is over of one that waits, if that is known, given its turns and wake_at: with
-- turns, after a reset or as a fork, that is any timer's.
local function timeout_at(turns, wake_at)
  return turns == '0' and tonumber(wake_at or '') or nil
end

local living = {}

local function is_left_to_another(sticky_worker)
  if not sticky_worker or sticky_worker == '' or sticky_worker == worker then
    return false
  end
  if living[sticky_worker] == nil then
    living[sticky_worker] = alive(sticky_worker) and true or false
  end
  return living[sticky_worker]
end

-- Look through one sorted set of free instances; return how many were found. Those of limited
-- workflows for which there is no place, since others stand before them, are put aside.
local function look_for_free(place, queue, priority, most, found)
  local key = P .. place
  local of_place = 0
  local of_workflow = {}
  ascend(key, '-inf', now, function(id, at)
    if of_place >= most or number_aside >= MOST_ASIDE then
      return true
    end
    local row = redis.call('HMGET', P .. 'i:' .. id, 'workflow', 'sticky', 'life', 'turns', 'wake_at')
    if not row[1] then
      zrem(place, id) -- there is nothing that could be given
    elseif not (excluded[row[1]] or excluded_ids[id]) then
      if at > now - asked.sticky and is_left_to_another(row[2]) then
        next_at = earlier(next_at, at + asked.sticky)
      elseif is_outside(id, row[1], row[3]) then
        local before, until_at = of_workflow[row[1]] or 0, timeout_at(row[4], row[5])
        local overdue = until_at and until_at <= now -- so it is taken to be ended
        if overdue or before < rooms[row[1]] then -- which is for the best ones, see `admit`
          of_workflow[row[1]] = before + (overdue and 0 or 1)
          found[#found + 1] = {
            id = id, at = at, place = place, priority = priority, life = row[3] or '',
            outside = row[1], wake_at = until_at, overdue = overdue,
          }
          of_place = of_place + (overdue and 1 or 0)
        else
          number_aside = number_aside + 1
          put_aside(id, at, { workflow = row[1], queue = queue, wake_at = until_at }, priority)
        end
      else
        found[#found + 1] = { id = id, at = at, place = place, priority = priority }
        of_place = of_place + 1
      end
    end
  end)
  ascend(key, '(' .. now_exact, '+inf', function(id, at)
    if next_at and at >= next_at then
      return true
    end
    if excluded_ids[id] then
      return false
    end
    if not next(excluded) or not excluded[redis.call('HGET', P .. 'i:' .. id, 'workflow')] then
      next_at = earlier(next_at, at)
      return true
    end
  end)
  return of_place
end

-- Look for the ordinary ones of a queue, and for suspects: for `many` and for `few` at most.
local function look_into(queue, many, few, found, suspects)
  for _, priority in ipairs(priorities_of(queue)) do
    if many then
      local place = place_of(queue, priority, false)
      many = many - look_for_free(place, queue, priority, many, found)
    end
    local place = place_of(queue, priority, true)
    if redis.call('EXISTS', P .. place) == 1 then
      few = few - look_for_free(place, queue, priority, few, suspects)
    end
  end
end

-- Put those that wait, and whose time is over, among what is ready.
local function bring_overdue(queue)
  ascend(P .. 'overdue:' .. queue, '-inf', now, function(id, at)
    local row = overdue_row(id, queue, at)
    if row and not (excluded[row.workflow] or excluded_ids[id]) then
      come_back(id, row)
      number_aside = number_aside + 1
    end
    return number_aside >= MOST_ASIDE
  end)
  flush()
end

-- Look through those of a queue that wait for a place of which there is one.
local function look_into_lines(queue, priorities, found)
  for workflow, room in pairs(rooms) do
    local most = excluded[workflow] and 0 or math.min(room, limit + 1)
    for _, priority in ipairs(priorities) do
      local line = line_name(queue, priority, workflow)
      ascend(P .. line, '-inf', '+inf', function(id)
        if most <= 0 then
          return true
        end
        local row = not excluded_ids[id] and row_in_line(id, line)
        if row then
          most = most - 1
          found[#found + 1] = {
            id = id, at = row.at, place = line, priority = priority, life = row.life,
            outside = workflow, row = row,
          }
        end
      end)
    end
  end
end

-- Note when the time is over of the next one of a queue that waits.
local function look_for_overdue(queue)
  ascend(P .. 'overdue:' .. queue, '(' .. now_exact, '+inf', function(id, at)
    local row = overdue_row(id, queue, at)
    if row and not (excluded[row.workflow] or excluded_ids[id]) then
      next_at = earlier(next_at, at)
      return true
    end
  end)
end

-- Leave out those for which there is no room, and note those that begin.
local function admit(sorted)
  if not next(rooms) then
    return sorted
  end
  local kept = {}
  for _, one in ipairs(sorted) do
    if not one.outside or one.overdue or rooms[one.outside] > 0 then
      kept[#kept + 1] = one
      if one.outside and #kept <= limit then
        rooms[one.outside] = rooms[one.outside] - 1
        redis.call('HSET', P .. 'admitted:' .. one.outside, one.id, one.life)
      end
    elseif one.wake_at then
      next_at = earlier(next_at, one.wake_at)
    end
  end
  return kept
end

local found, suspects = {}, {}
if asked.suspect then
  for queue in pairs(wanted_queues) do
    look_into(queue, nil, 2, found, suspects)
  end
  table.sort(suspects, by_rank)
  found[1] = table.remove(suspects, 1)
elseif limit == 0 then
  look_for_mine(found)
else
  look_for_mine(found)
  local limited = next(rooms) ~= nil
  for queue in pairs(wanted_queues) do
    if limited then
      bring_overdue(queue)
      look_into_lines(queue, priorities_of(queue), found)
    end
    look_into(queue, limit + 1, 1, found, suspects)
  end
  table.sort(found, by_rank)
  found = admit(found)
  if #found > limit then
    next_at = earlier(next_at, found[limit + 1].at)
    for n = #found, limit + 1, -1 do
      found[n] = nil
    end
  end
  if limited then
    for _, one in ipairs(found) do
      if one.row then
        stop_waiting(one.id, one.row)
      end
    end
    flush()
    for queue in pairs(wanted_queues) do
      look_for_overdue(queue)
    end
    if number_aside >= MOST_ASIDE then
      next_at = earlier(next_at, now)
    end
  end
end

local reply = { now_exact, next_at and exact(next_at) or '', #suspects > 0 and 1 or 0 }
for _, one in ipairs(found) do
  local id = one.id
  if one.place then
    zrem(one.place, id)
    redis.call('HSET', P .. 'i:' .. id, 'worker', worker)
    if asked.suspect then
      local deaths = tonumber(redis.call('HGET', P .. 'i:' .. id, 'deaths') or 0) or 0
      redis.call('HSET', P .. 'i:' .. id, 'deaths', deaths + 1)
    end
  end
  redis.call('HSET', P .. 'i:' .. id, 'held_at', now_exact)
  zadd('held:' .. worker, INF, id)
  reply[#reply + 1] = {
    id,
    exact(one.at),
    redis.call('HMGET', P .. 'i:' .. id, unpack(asked.fields)),
    redis.call('HGETALL', P .. 'x:' .. id),
  }
end
flush()
return reply
