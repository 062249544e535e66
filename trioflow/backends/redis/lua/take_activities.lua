-- include: base activities taking
-- Lease visible activities to a worker.
-- ARGV: TakeRequest. Returns: now, next_at or '', then the rows as `describe` gives them.

local asked = cmsgpack.unpack(ARGV[1])
local worker, limit = asked.worker, asked.limit
if not alive(worker) then
  return { exact(now), '' }
end

local excluded = set_of(asked.exclude)
local found = {}
local next_at

local function load_token(token)
  local id, execution, command = parse_token(token)
  local row = load_activity(id, execution, command)
  row.instance, row.execution, row.command = id, execution, command
  return row
end

-- Returns how many were found.
local function look_for_visible(queue, priority, most)
  local key = P .. 'visible' .. lane(queue, priority)
  local of_lane = 0
  ascend(key, '-inf', now, function(token, at)
    if of_lane >= most then
      return true
    end
    local row = load_token(token)
    if not excluded[row.activity] then
      found[#found + 1] = { id = token, at = at, row = row, priority = priority }
      of_lane = of_lane + 1
    end
  end)
  ascend(key, '(' .. exact(now), '+inf', function(token, at)
    if next_at and at >= next_at then
      return true
    end
    if not next(excluded) or not excluded[load_token(token).activity] then
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

local reply = { exact(now), next_at and exact(next_at) or '' }
for n = 1, math.min(limit, #found) do
  local token, row = found[n].id, found[n].row
  row.worker = worker
  store_activity(row.instance, row.execution, row.command, row)
  zrem('visible' .. lane(row.queue, row.priority), token)
  hold_activity(token, row.queue, worker, row.cancel)
  reply[#reply + 1] = describe(row.instance, row.execution, row.command, row)
end
flush()
return reply
