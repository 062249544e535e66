-- Instances that wait for a place of their workflow's limit. They must not stay among what is ready,
-- where every look would read all of them: whoever meets one for which there is no place puts it aside.
--   waits<lane>          all of them, by ready_at, in the place of ready<lane>
--   line<lane>           those of one workflow, by ready_at; the lane is that of `line_name`
--   overdue:<queue>      those that have a timeout, by its end: then they wait no more
-- In the last two, a member that is not in the first means nothing, and is dropped when it is met.

local function line_name(queue, priority, workflow)
  return 'line' .. lane(queue .. '\0' .. workflow, priority)
end

local function put_aside(id, at, row, priority)
  local queue, workflow, wake_at = row.queue, row.workflow, row.wake_at
  zrem(place_of(queue, priority, false), id)
  zadd('waits' .. lane(queue, priority), at, id)
  zadd(line_name(queue, priority, workflow), at, id)
  if wake_at then
    zadd('overdue:' .. queue, wake_at, id)
  end
end

-- Return the row of one that waits, or nil; then it is not listed any more.
local function waiting_row(id, key, matches)
  local found = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'worker', 'workflow', 'queue', 'priority', 'wake_at', 'life'
  )
  local row = {
    workflow = found[3], queue = found[4] or '', priority = tonumber(found[5]) or 0,
    wake_at = tonumber(found[6] or ''), life = found[7] or '',
  }
  local place = 'waits' .. lane(row.queue, row.priority)
  row.at = tonumber(redis.call('ZSCORE', P .. place, id) or '')
  if not row.at or not matches(row) then
    zrem(key, id)
    return nil
  end
  if found[1] ~= 'running' or (found[2] or '') ~= '' then
    zrem(place, id)
    zrem(key, id)
    return nil
  end
  return row
end

local function row_in_line(id, key)
  return waiting_row(id, key, function(row)
    return line_name(row.queue, row.priority, row.workflow) == key -- not that of an earlier life
  end)
end

local function overdue_row(id, queue, at)
  return waiting_row(id, 'overdue:' .. queue, function(row)
    return row.queue == queue and row.wake_at == at
  end)
end

-- It waits no more.
local function stop_waiting(id, row)
  zrem('waits' .. lane(row.queue, row.priority), id)
  zrem(line_name(row.queue, row.priority, row.workflow), id)
  if row.wake_at then
    zrem('overdue:' .. row.queue, id)
  end
end

-- Put one among what is ready again.
local function come_back(id, row)
  stop_waiting(id, row)
  zadd('ready' .. open_lane(row.queue, row.priority), row.at, id)
end
