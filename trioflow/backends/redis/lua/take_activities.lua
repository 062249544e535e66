-- include: base activities limiting taking
-- Lease visible activities to a worker.
-- ARGV: TakeRequest. Returns: now, next_at or '', those that are passed over since their rows cannot
-- be read, whether a limit keeps something waiting, the version of the limits, then the rows as
-- `describe` gives them.

local asked = cmsgpack.unpack(ARGV[1])
local worker, limit = asked.worker, asked.limit
if not alive(worker) then
  return { now_exact, '', {}, 0, '' }
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

-- Give a row to the worker.
local function lease(token, row)
  local place = 'visible' .. lane(lane_name(row.queue, row.limit_key), row.priority)
  row.worker = worker
  row.limit_key = is_aside(row.limit_key) and '' or row.limit_key
  store_activity(row.instance, row.execution, row.command, row.life, row)
  zrem(place, token)
  hold_activity(token, row.queue, worker, row.cancel)
end

local function reply_with(leased, limited, version)
  local reply = {
    now_exact, next_at and exact(next_at) or '', unreadable, limited and 1 or 0, version,
  }
  for _, row in ipairs(leased) do
    reply[#reply + 1] = describe(row.instance, row.execution, row.command, row.life, row)
  end
  flush()
  return reply
end

local function take_unlimited(version)
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
  local leased = {}
  for n = 1, math.min(limit, #found) do
    lease(found[n].id, found[n].row)
    leased[n] = found[n].row
  end
  return reply_with(leased, false, version)
end

-- --- with limits: as `trioflow/backends/_common/budgets.py` and `sql/operations/limited.py` do it

local PARTS = 100
local budgets, by_kind = {}, { queue = {}, activity = {} }
local full, full_keys, left_out = {}, {}, 0
local MOST_ASIDE = 500 -- are put aside in one call
local number_aside = 0
local given = {}
local in_way = false

local function counts_until(budget, part)
  return (part + 1) * budget.part + budget.limit.per
end

local function open_budget(limit)
  local stored = redis.call('GET', P .. 'limit:' .. limit.kind .. ':' .. limit.name)
  local state = stored and cmsgpack.unpack(stored) or { begun = {}, turns = {} }
  local budget = {
    limit = limit, part = limit.per / PARTS, used = 0, of_key = {}, begun = 0, turns = state.turns,
    log = {}, changed = false,
  }
  if limit.rate then
    for _, entry in ipairs(state.begun) do
      if counts_until(budget, entry[1]) > now then
        budget.log[#budget.log + 1] = entry
        budget.begun = budget.begun + entry[2]
      end
    end
  end
  budgets[#budgets + 1] = budget
  by_kind[limit.kind][limit.name] = budget
end

local function of(queue, activity)
  local its = { by_kind.queue[queue] }
  its[#its + 1] = by_kind.activity[activity]
  return its
end

-- Leave out what cannot begin in this look.
local function leave_out(names, name)
  if not names[name] then
    names[name] = true
    left_out = left_out + 1
  end
end

local function count_one(budget, key)
  budget.used = budget.used + 1
  budget.of_key[key] = (budget.of_key[key] or 0) + 1
end

local function count_leased()
  local function count_row(queue, activity, key)
    for _, budget in ipairs(of(queue, activity)) do
      count_one(budget, key)
    end
  end
  local simple, wanted = true, false
  for _, budget in ipairs(budgets) do
    wanted = wanted or budget.limit.concurrency or budget.limit.key_concurrency
    simple = simple and budget.limit.kind == 'queue' and not budget.limit.key_concurrency
  end
  if not wanted then
    return
  end
  if simple then
    for queue, budget in pairs(by_kind.queue) do
      local leased = redis.call('HGET', P .. 'numbers', 'activities:' .. queue)
      budget.used = tonumber(leased or 0)
    end
  else
    each_leased(function(_, token)
      local id, execution, command, life = parse_token(token)
      local row = id and load_activity(id, execution, command, life)
      if row then
        count_row(row.queue, row.activity, row.limit_key)
      end
    end)
  end
  each_kept(count_row)
end

local function room_of(budget)
  local room = INF
  if budget.limit.concurrency then
    room = budget.limit.concurrency - budget.used
    in_way = in_way or room <= 0
  end
  if budget.limit.rate then
    room = math.min(room, budget.limit.rate - budget.begun)
  end
  return math.max(room, 0)
end

local function room_of_key(budget, key)
  local most = budget.limit.key_concurrency
  if not most or key == '' or is_aside(key) then
    return INF
  end
  local room = math.max(most - (budget.of_key[key] or 0), 0)
  in_way = in_way or room == 0
  return room
end

local function begin_one(budget, key)
  count_one(budget, key)
  budget.changed = true
  if budget.limit.rate then
    budget.begun = budget.begun + 1
    local part, last = math.floor(now / budget.part), budget.log[#budget.log]
    if last and last[1] >= part then
      last[2] = last[2] + 1
    else
      budget.log[#budget.log + 1] = { part, 1 }
    end
  end
end

-- Note that one begins, if it may; return whether it does.
local function may_begin(row)
  local its = of(row.queue, row.activity)
  for _, budget in ipairs(its) do
    if room_of(budget) < 1 then
      if budget.limit.kind == 'activity' then
        leave_out(full, row.activity)
      end
      return false
    end
    if room_of_key(budget, row.limit_key) < 1 then
      leave_out(full_keys, row.limit_key)
      return false
    end
  end
  for _, budget in ipairs(its) do
    begin_one(budget, row.limit_key)
  end
  return true
end

-- Return what keeps whose turn it is in a queue, or nil if its activities have no keys.
local function keeper_of(queue)
  local own = by_kind.queue[queue]
  if own and own.limit.key then
    return own
  end
  for _, budget in ipairs(budgets) do
    if budget.limit.kind == 'activity' and budget.limit.key then
      return budget
    end
  end
end

-- Put a row aside that cannot begin since its activity is full; it still waits in this look.
local function put_aside(token, at, row, place)
  row.limit_key = aside_key(row.activity)
  store_activity(row.instance, row.execution, row.command, row.life, row)
  zrem(place, token)
  zadd('visible' .. waiting_lane(row.queue, row.priority, row.limit_key), at, token)
  given[token] = true
  number_aside = number_aside + 1
end

-- Return up to so many visible rows of a queue and a key, the best first.
local function rows_of(queue, key, most)
  local name, rows = lane_name(queue, key), {}
  for _, priority in ipairs(priorities_of(name)) do
    local place = 'visible' .. lane(name, priority)
    ascend(P .. place, '-inf', now, function(token, at)
      if #rows >= most or number_aside >= MOST_ASIDE then
        return true
      end
      if not given[token] then
        local wanted, row = is_wanted(token, place)
        if wanted and full[row.activity] and row.limit_key == '' then
          put_aside(token, at, row, place)
        elseif wanted and not full[row.activity] then
          rows[#rows + 1] = { id = token, at = at, row = row, priority = priority }
        end
      end
    end)
  end
  return rows
end

-- Without those of what is put aside.
local function keys_of(queue, from, to)
  if from == '-' or from == '(' then
    from = '("'
  end
  return redis.call('ZRANGEBYLEX', P .. 'keys:' .. queue, from, to)
end

-- Return whether anything of an activity is put aside in a queue.
local function any_aside(queue, activity)
  local name = lane_name(queue, aside_key(activity))
  for _, priority in ipairs(priorities_of(name)) do
    if redis.call('EXISTS', P .. 'visible' .. lane(name, priority)) == 1 then
      return true
    end
  end
  return false
end

-- As `rows_of` what has no key; with what was put aside and may begin now.
local function unkeyed_rows(queue, most)
  local rows = rows_of(queue, '', most)
  local before = #rows
  for name, budget in pairs(by_kind.activity) do
    if not excluded[name] and any_aside(queue, name) then
      local room = math.min(room_of(budget), most)
      for _, row in ipairs(room > 0 and rows_of(queue, aside_key(name), room) or {}) do
        rows[#rows + 1] = row
      end
    end
  end
  if #rows > before then
    table.sort(rows, by_rank)
    for n = #rows, most + 1, -1 do
      rows[n] = nil
    end
  end
  return rows
end

-- Return rows of a queue whose keys take turns: as many of each, from the next one on.
local function rows_in_turns(queue, room)
  local last = keeper_of(queue).turns[queue] or ''
  local keys = keys_of(queue, '(' .. last, '+')
  keys[#keys + 1] = ''
  if last ~= '' then
    for _, key in ipairs(keys_of(queue, '-', '[' .. last)) do
      keys[#keys + 1] = key
    end
  end
  local lanes, own = {}, by_kind.queue[queue]
  for _, key in ipairs(keys) do
    local share = full_keys[key] and 0 or math.min(own and room_of_key(own, key) or INF, room)
    if share > 0 and #lanes < room then
      local rows = key == '' and unkeyed_rows(queue, share) or rows_of(queue, key, share)
      if #rows > 0 then
        lanes[#lanes + 1] = rows
      elseif key ~= '' and redis.call('EXISTS', P .. 'visible:' .. lane_name(queue, key),
          P .. 'lanes:' .. lane_name(queue, key)) == 0 then
        zrem('keys:' .. queue, key)
      end
    end
  end
  local turns, round, any = {}, 1, true
  while any and #turns < room do
    any = false
    for _, rows in ipairs(lanes) do
      if rows[round] and #turns < room then
        turns[#turns + 1] = rows[round]
        any = true
      end
    end
    round = round + 1
  end
  return turns
end

-- Merge the rows of several queues, each in its own order, by the ranks of those that are next.
local function merged(lists)
  local rows = {}
  while true do
    local best
    for _, list in ipairs(lists) do
      local head = list[list.next]
      if head and (not best or by_rank(head, best[best.next])) then
        best = list
      end
    end
    if not best then
      return rows
    end
    rows[#rows + 1] = best[best.next]
    best.next = best.next + 1
  end
end

local function look_for_rows(queues, most)
  local lists = {}
  for _, queue in ipairs(queues) do
    local own = by_kind.queue[queue]
    local room = math.min(own and room_of(own) or INF, most)
    if room > 0 then
      local rows = keeper_of(queue) and rows_in_turns(queue, room) or unkeyed_rows(queue, room)
      rows.next = 1
      lists[#lists + 1] = rows
    end
  end
  return merged(lists)
end

-- Note when the next of a queue and a key becomes visible; return whether any is now.
local function look_ahead(queue, key)
  local name, waits = lane_name(queue, key), false
  for _, priority in ipairs(priorities_of(name)) do
    local place = 'visible' .. lane(name, priority)
    ascend(P .. place, '(' .. now_exact, '+inf', function(token, at)
      if is_wanted(token, place) then
        next_at = earlier(next_at, at)
        return true
      end
    end)
    if not waits then
      ascend(P .. place, '-inf', now, function(token)
        waits = not given[token] and is_wanted(token, place)
        return waits
      end)
    end
  end
  return waits
end

local function save_budgets()
  for _, budget in ipairs(budgets) do
    if budget.changed then
      local name = P .. 'limit:' .. budget.limit.kind .. ':' .. budget.limit.name
      redis.call('SET', name, cmsgpack.pack({ begun = budget.log, turns = budget.turns }))
    end
    local first = budget.log[1]
    if budget.limit.rate and budget.begun >= budget.limit.rate and first then
      next_at = earlier(next_at, counts_until(budget, first[1]))
    end
  end
end

local function lease_limited(one)
  local row = one.row
  given[one.id] = true
  lease(one.id, row)
  local keeper = keeper_of(row.queue)
  if keeper then
    keeper.turns[row.queue] = row.limit_key -- which is '' now, if it was put aside
    keeper.changed = true
  end
end

local function take_limited(limits)
  local wanted, queues = set_of(asked.queues), {}
  for queue in pairs(wanted) do
    queues[#queues + 1] = queue
  end
  table.sort(queues)
  for _, one in ipairs(limits.of_activities) do
    if one.kind == 'activity' or wanted[one.name] then
      open_budget(one)
    end
  end
  count_leased()
  local leased, begun, before = {}, 0, -1
  while begun + left_out + number_aside > before and #leased < limit do
    before = begun + left_out + number_aside -- each round begins something, or leaves out more
    for _, one in ipairs(look_for_rows(queues, limit - #leased)) do
      if #leased < limit and may_begin(one.row) then
        lease_limited(one)
        leased[#leased + 1] = one.row
      end
    end
    begun = #leased
  end
  save_budgets()
  local waits = number_aside > 0
  for _, queue in ipairs(queues) do
    waits = look_ahead(queue, '') or waits
    for name in pairs(by_kind.activity) do
      waits = not excluded[name] and look_ahead(queue, aside_key(name)) or waits
    end
    if keeper_of(queue) then
      for _, key in ipairs(keys_of(queue, '-', '+')) do
        waits = look_ahead(queue, key) or waits
      end
    end
  end
  if waits and #leased == limit or number_aside >= MOST_ASIDE then
    next_at = now
  end
  waits = waits and in_way
  return reply_with(leased, waits, limits.version)
end

local limits = may_have_limits() and load_limits() or no_limits()
if #limits.of_activities > 0 then
  return take_limited(limits)
end
return take_unlimited(limits.version)
